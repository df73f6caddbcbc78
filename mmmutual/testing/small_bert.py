"""A BERT of one layer with random weights, in a folder, so that detectors with a language model need no download."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

BERT = 'bert-base-uncased'  # the name in mmdet's configs
WORDS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', '?', 'cat', 'dog', 'object')


@cache
def small_bert() -> str:
    """Write the model and its tokenizer once for each process.

    Returns:
        The folder, which ``from_pretrained`` of transformers accepts; ``BERT`` if transformers is not installed.
    """
    try:
        from transformers import BertConfig, BertModel, BertTokenizer
    except ImportError:
        return BERT
    folder = Path(mkdtemp(prefix='small_bert_'))
    (folder / 'vocab.txt').write_text('\n'.join(WORDS))
    BertTokenizer(str(folder / 'vocab.txt')).save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(WORDS), num_hidden_layers=1)).save_pretrained(folder)
    return str(folder)
