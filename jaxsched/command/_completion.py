"""Completion of the command by shells: a script made of its arguments and the table's names."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from jaxsched.names._lookup import LIBRARY
from jaxsched.names._sources import all_sources

SHELLS = ("bash", "zsh", "fish")


def completion(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script, for ``eval "$(jaxsched completion bash)"``; of fish ``... fish | source``."""
    # The words are in the script, so that a key press starts no Python, which takes 0.1 s; a new
    # version of the package needs the script anew. Zsh runs the one of bash.
    subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    options = {
        name: [o for a in sub._actions for o in a.option_strings]
        for name, sub in subparsers.choices.items()
    }
    known = sorted((entry.name for entry in all_sources()), key=str.lower)
    more = dict.fromkeys(("show", "plot", "names"), known)
    more |= {"convert": list(LIBRARY), "completion": list(SHELLS)}
    words = {name: [*texts, *more.get(name, ())] for name, texts in options.items()}
    first = [*words, *(o for a in parser._actions for o in a.option_strings)]
    if shell == "fish":
        lines = ["complete -c jaxsched -n __fish_use_subcommand -a " + _quoted(first)]
        for name, texts in words.items():
            lines.append(
                f"complete -c jaxsched -n '__fish_seen_subcommand_from {name}' -a {_quoted(texts)}"
            )
        return "\n".join(lines)
    cases = "\n".join(f"    {name}) words={_quoted(texts)} ;;" for name, texts in words.items())
    script = f"""_jaxsched() {{
  local words
  case "${{COMP_WORDS[1]}}" in
{cases}
    *) words={_quoted(first)} ;;
  esac
  [ "$COMP_CWORD" = 1 ] && words={_quoted(first)}
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _jaxsched jaxsched"""
    return "autoload -U +X bashcompinit && bashcompinit\n" + script if shell == "zsh" else script


def _quoted(words: Iterable[str]) -> str:
    return f"'{' '.join(words)}'"
