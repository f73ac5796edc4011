#!/bin/sh
# Starts a replay shard with shard.conf and settings from the environment:
#   REDIS_PASSWORD       required, or
#   REDIS_PASSWORD_FILE  a file that holds it
#   REDIS_MAXMEMORY      required, for example 8gb
#   REDIS_BIND           addresses to listen on; if empty, local connections only
#   REDIS_PORT           if empty, 6379
# The server reads them from its standard input: a command line is visible to every user of the machine.
set -eu

stop() {
    echo "start.sh: $1" >&2
    exit 1
}

if [ -n "${REDIS_PASSWORD_FILE-}" ]; then
    REDIS_PASSWORD=$(cat -- "$REDIS_PASSWORD_FILE") || stop "REDIS_PASSWORD_FILE=$REDIS_PASSWORD_FILE cannot be read"
fi
newline='
'
case ${REDIS_PASSWORD-} in
'') stop 'set REDIS_PASSWORD, for example: export REDIS_PASSWORD=$(openssl rand -hex 32)' ;;
*"$newline"*) stop 'REDIS_PASSWORD has more than one line' ;;
esac
case ${REDIS_MAXMEMORY-} in
'' | 0*) stop 'set REDIS_MAXMEMORY to what this shard may take, for example 8gb' ;;
esac

password=$(printf '%s' "$REDIS_PASSWORD" | sed 's/[\\"]/\\&/g')
folder=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
exec redis-server - <<END
include "$folder/shard.conf"
requirepass "$password"
maxmemory $REDIS_MAXMEMORY
${REDIS_BIND:+bind $REDIS_BIND}
${REDIS_PORT:+port $REDIS_PORT}
END
