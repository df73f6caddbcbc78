"""The paper's claims in miniature: which trainings, on what, and the tables of their results."""
