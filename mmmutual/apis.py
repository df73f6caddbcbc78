"""Deprecated: the names of ``mmmutual.apis`` have moved to the rooms below; removed in mmmutual 0.3."""

from .moved_names import moved

__getattr__ = moved(
    __name__,
    {
        'mmmutual.checkpoint': """PublishedWeights check_architecture check_mutual check_scope:check_resumed_scope
            convert_published latest_checkpoint load_model read_checkpoint warn_of_other_classes""",
        'mmmutual.config': """build_model config_name format_changes load_config make_mutual make_mutual_with_plan
            override require write_mutual""",
        'mmmutual.engine': 'check_model clear_errors join_processes prepare',
        'mmmutual.evaluation': 'fill_query_table',
        'mmmutual.evaluation.plotting': 'show_widths',
        'mmmutual.inference': 'AdaptiveInferencer find_images',
        'mmmutual.slimming': 'format_share',
    },
)
