"""`e2enet serve`: one server for a department, and the tokens of its users."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from e2enet.cli.common import Debug, ProgressStyle, run
from e2enet.events import BadInput
from e2enet.folders import user_folder

serve = typer.Typer(
    help="Segment for others: an HTTP service for a department's GPU.", no_args_is_help=False
)

Folder = Annotated[
    Path | None,
    typer.Option(
        help="Database, uploads and results, in the user's folder by default.", show_default=False
    ),
]
PORT = 8642


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.add_typer(serve, name="serve")


@serve.callback(invoke_without_command=True)
def _serve(
    context: typer.Context,
    folder: Folder = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than this computer's need TLS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.")] = PORT,
    certificate: Annotated[
        Path | None, typer.Option(help="TLS certificate (PEM).", show_default=False)
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Its key (PEM).", show_default=False)] = None,
    proxy: Annotated[
        str | None,
        typer.Option(
            help="IP address of the proxy that ends TLS; nobody else is answered.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="auto, cpu, cuda:N or mps; given several times, one job at a time on each.",
            show_default="auto",
        ),
    ] = None,
    upload_mb: Annotated[int, typer.Option(min=1, help="Largest file that may be sent.")] = 1000,
    volume_mb: Annotated[
        int, typer.Option(min=1, help="Largest volume once unpacked, as 32-bit numbers.")
    ] = 4000,
    jobs_each: Annotated[int, typer.Option(min=1, help="Unfinished jobs of one user.")] = 20,
    keep_hours: Annotated[
        float, typer.Option(min=0.001, help="Results are deleted after this.")
    ] = 24.0,
    job_minutes: Annotated[
        float, typer.Option(min=0.001, help="Longest that a job may take.")
    ] = 60.0,
    debug: Debug = False,
) -> None:
    """Serve until Ctrl+C. Without a token nothing is answered but GET /health."""
    if context.invoked_subcommand is not None:
        return

    def work(_: Any) -> None:
        _need_fastapi()
        from e2enet.service.server import Door
        from e2enet.service.server import serve as serve_until_stopped
        from e2enet.service.settings import MEGA, Settings

        settings = Settings(
            folder=_folder(folder),
            devices=tuple(device or ["auto"]),
            proxy=proxy,
            upload_bytes=upload_mb * MEGA,
            volume_bytes=volume_mb * MEGA,
            jobs_each=jobs_each,
            keep_s=keep_hours * 3600,
            job_s=job_minutes * 60,
        )
        door = Door(host, port, certificate, key)
        serve_until_stopped(
            settings, door, ready=lambda url: print(f"Serving on {url}", flush=True)
        )

    run(work, progress=ProgressStyle.bar, debug=debug)


@serve.command()
def token(
    user: Annotated[str, typer.Argument(help="A name for the user, such as radiology-3.")],
    folder: Folder = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Take the user's token away.")] = False,
    debug: Debug = False,
) -> None:
    """Make a token for a user; an older one is no longer taken. It is shown once."""

    def work(_: Any) -> None:
        from e2enet.files import output_errors
        from e2enet.service.jobs.database import Database
        from e2enet.service.jobs.tokens import hash_of, new_token

        if not user.strip() or len(user) > 100 or not user.isprintable():
            raise BadInput(
                f"{user!r} is no name for a user.",
                help="Give 1 to 100 characters.",
                code="bad-user",
            )
        made = None if revoke else new_token()
        with output_errors(_folder(folder)):
            database = Database(_folder(folder))
        known = database.set_token(user, hash_of(made) if made else None)
        database.close()
        if made:
            typer.echo(made)
        elif not known:
            raise BadInput(f"There is no user {user!r}.", code="bad-user")

    run(work, progress=ProgressStyle.bar, debug=debug)


def _folder(folder: Path | None) -> Path:
    return folder or user_folder() / "server"


def _need_fastapi() -> None:
    from importlib.util import find_spec

    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        raise BadInput(
            "A server needs FastAPI and uvicorn, which are not installed.",
            help="pip install 'e2enet[serve]'",
            code="no-fastapi",
        )
