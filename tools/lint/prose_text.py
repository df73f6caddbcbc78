"""Extract the prose of a Markdown or Python file: everything else becomes `|`, so that line numbers stay."""

import io
import re
import tokenize

_CODE = {'STRING', 'FSTRING_MIDDLE', 'COMMENT'}
_PRAGMA = re.compile(r'#\s*(?:noqa|type:|pragma|ruff:|pyright|mypy|!)')


def _hide(match: re.Match) -> str:
    return re.sub(r'[^\n]', '|', match[0])


def markdown_prose(text: str) -> str:
    """Hide code blocks (their fences stay), code spans, link targets and HTML tags.

    Args:
        text: Markdown, or a docstring.
    """

    def hide_block(match: re.Match) -> str:
        return match['open'] + re.sub(r'[^\n]', '|', match['code']) + match['close']

    block = r'^(?P<open>[ \t]*(?P<fence>```+|~~~+))(?P<code>[^`\n]*\n.*?)(?P<close>^[ \t]*(?P=fence)[ \t]*)$'
    text = re.sub(block, hide_block, text, flags=re.M | re.S)
    text = re.sub(r'(?<!`)(`{1,2})(?!`)(?:(?!\n\s*\n)[^`])+\1(?!`)', _hide, text)
    text = re.sub(r'(?<=\])\([^()\s]*(?:\([^()\s]*\)[^()\s]*)*\)', _hide, text)
    return re.sub(r'<!--.*?-->|</?[a-z][^<>]*>', _hide, text, flags=re.S)


def python_prose(text: str) -> str:
    """Hide all but the comments and the strings of several words: docstrings and messages.

    Quotes and `#` become blanks, so that a sentence may run over several strings or comments.

    Args:
        text: Source code.

    Raises:
        SyntaxError, tokenize.TokenError: If `text` is not Python.
    """
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    prose = [character if character.isspace() else '|' for character in text]
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        start, end = (starts[line - 1] + column for line, column in (token.start, token.end))
        if kind.startswith('FSTRING') or kind in _CODE:
            prose[start:end] = _quoted(text[start:end], kind)
    return markdown_prose(''.join(prose))


def _quoted(literal: str, kind: str) -> str:
    if kind == 'COMMENT':
        return _hide(re.match('.*', literal)) if _PRAGMA.match(literal) else literal.replace('#', ' ', 1)
    if kind in ('FSTRING_START', 'FSTRING_END'):
        return ' ' * len(literal)
    if not re.search(r'\w\s+\w', literal):
        return re.sub(r'[^\s\'"]', '|', literal)
    quotes = re.match(r'(?P<prefix>[A-Za-z]{0,2})(?P<quote>"""|\'\'\'|"|\')(?P<text>.*)(?P=quote)$', literal, re.S)
    if kind == 'FSTRING_MIDDLE' or quotes is None:
        return literal
    content = quotes['text']
    if 'f' in quotes['prefix'].lower():
        content = re.sub(r'\{[^{}]*\}', _hide, content)
    content = re.sub(r'\\[nt\'"]', '  ', content)
    edge = len(quotes['quote'])
    return ' ' * (len(quotes['prefix']) + edge) + content + ' ' * edge
