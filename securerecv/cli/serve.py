"""``securerecv serve``: the server, with the options that twistd takes too."""

import sys

import click

from securerecv.cli.serveroptions import with_server_options


@click.command()
@with_server_options
def serve(**options: str | bool | None) -> None:
    """Start the server in the foreground."""
    from twisted.scripts import twistd

    words = []
    for name, value in options.items():
        written = "--" + name.replace("_", "-")
        if value is True:
            words.append(written)
        elif value not in (None, False):
            words += [written, str(value)]
    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "securerecv", *words]
    twistd.run()
