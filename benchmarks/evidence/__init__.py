"""The paper's claims in miniature: the trainings, their config, and the tables of their results."""
