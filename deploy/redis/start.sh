#!/bin/sh
# Starts a replay shard with shard.conf and what differs between machines, from the environment:
#   REDIS_PASSWORD   required
#   REDIS_MAXMEMORY  required, such as 8gb
#   REDIS_BIND       addresses to listen on; this machine's own when empty
#   REDIS_PORT       6379 when empty
# They go to the server by its standard input: a command line can be read by everybody on the machine.
set -eu

stop() {
    echo "start.sh: $1" >&2
    exit 1
}

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
