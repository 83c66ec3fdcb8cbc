"""`reco redis-users`: an ACL file for Redis, and a password for each of its users."""

from pathlib import Path

import click

from infra.redis_users import (
    ACL_FILE,
    ADMIN,
    PRODUCER,
    SERVER,
    TRAINER,
    BadPassword,
    password_file,
    write_users,
)


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder to write to.",
)
@click.option("--trainer-password", envvar="RECO_REDIS_TRAINER_PASSWORD", show_envvar=True)
@click.option("--server-password", envvar="RECO_REDIS_SERVER_PASSWORD", show_envvar=True)
@click.option("--producer-password", envvar="RECO_REDIS_PRODUCER_PASSWORD", show_envvar=True)
@click.option("--admin-password", envvar="RECO_REDIS_ADMIN_PASSWORD", show_envvar=True)
def command(
    out: Path,
    trainer_password: str | None,
    server_password: str | None,
    producer_password: str | None,
    admin_password: str | None,
) -> None:
    """Write an ACL file with a user each for the services and the operator, and their passwords.

    \b
    acl/users.acl      for Redis (`aclfile`): what each user may do, and hashes of the passwords
    trainer/password   for RECO_REDIS_PASSWORD_FILE of the trainers; server, producer, admin alike

    A password that is there already is kept, so it may run at every start. Give the passwords by
    variable rather than by option: options can be seen in the list of processes.

    Example: reco redis-users --out secrets
    """
    given = {
        TRAINER: trainer_password,
        SERVER: server_password,
        PRODUCER: producer_password,
        ADMIN: admin_password,
    }
    try:
        done = write_users(out, {user: text for user, text in given.items() if text})
    except BadPassword as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.UsageError(
            f"can't read or write {error.filename}: {error.strerror}; choose another --out"
        ) from error
    for line in done:
        click.echo(line)
    click.echo(f"{out / ACL_FILE} for Redis, {out / password_file('<user>')} for the clients")
