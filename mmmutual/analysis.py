"""Deprecated: the names of ``mmmutual.analysis`` have moved to the rooms below; removed in mmmutual 0.3."""

from .moved_names import moved

__getattr__ = moved(
    __name__,
    {
        'mmmutual.datasets': 'drawable_meta',
        'mmmutual.evaluation': """Cell:MeasuredSubnet Latency QueryTable count_grid count_multiply_adds
            count_parameters device_name format_count format_table main_metrics measure_latency write_report""",
        'mmmutual.evaluation.plotting': """budgets_of class_colors draw_instances front fronts
            plot_front plot_fronts plot_subnets""",
        'mmmutual.evaluation.query_report': 'write_query_report',
        'mmmutual.inference': 'LatencyController',
    },
)
