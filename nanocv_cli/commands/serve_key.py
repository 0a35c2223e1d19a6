"""`nanocv serve key`: a key for somebody who may ask a server."""

from pathlib import Path
from typing import Annotated

import typer

from nanocv_cli.commands.options import DebugFlag, JsonFlag, number_option, words
from nanocv_cli.output import emit, say, tell


def key(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    key_file: Annotated[Path, typer.Option(metavar="FILE", help="Where its hash is added.")] = Path("keys.txt"),
    roles: Annotated[
        str, typer.Option(metavar="ROLE,ROLE", help="What it opens: infer, control (load and unload), metrics.")
    ] = "infer",
    rate: Annotated[
        float, number_option(low=0.0, high=1e8, text="Requests per second that it may make; 0: any number.")
    ] = 0.0,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Make a key for a server: print it, and add its hash to the server's key file.

    It is shown this once: the file holds what is needed to know it again, and not the key. Who has it sends it as
    `Authorization: Bearer KEY`; nanocv's own commands take it from NANOCV_KEY. A running server reads its file again on
    SIGHUP; remove a line to take its key away.

    \b
    Examples:
      nanocv serve key laptop
      nanocv serve key prometheus --roles metrics --key-file /srv/keys.txt
    """
    from nanocv_cli.serving.key_file import ROLES, add_key

    chosen = words("--roles", roles, ROLES)
    made = add_key(key_file, name, [role for role in ROLES if role in chosen], rate or None)
    if as_json:
        emit({"name": name, "roles": chosen, "rate": rate or None, "key": made, "key_file": str(key_file)})
    else:
        tell(made)
    say(f"its hash is in {key_file}; nanocv serve run --key-file {key_file} lets it in, a running one after SIGHUP")
