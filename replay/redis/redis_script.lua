--[[
All changes to a replay on Redis, each call one atomic step, and the reads that must be consistent.

KEYS[1]   <prefix>:counts, a hash. All other keys begin with the same prefix:
          <prefix>:meta      JSON: schema and settings, written once
          <prefix>:life      id and number of drops, 32 bytes: if it is the same before and after a read, no chunk that
                             was read has been reused in between
          <prefix>:streams   hash: stream -> "next begin oldest seen" (replay/indexing/index.py defines these four),
                             followed by the number of the writer that claimed it, until its first step
          <prefix>:idle      sorted set: streams without items, by their `seen`
          <prefix>:log:<i>   the events in order, SEGMENT records of RECORD bytes each; the oldest segments are deleted
                             once none of their items is left
          <prefix>:c:<stream>:<chunk>   packed rows of one chunk, allocated in full at the start
          <prefix>:l:<stream>:<chunk>   its latents; the marker byte of a row is 1 once it is written; never in the AOF
          Streams are written as 16 hexadecimal digits, since Lua's numbers are exact only to 53 bits.

ARGV[1]   the call:
  open      meta id capacity slots length chunk_length row_bytes latent_bytes
                                        -> [counts, the replay's meta, 1 if this call created it]
  bound     capacity slots              -> 1
  begin     stream writer               -> 1, or -1 - next if another writer has claimed the stream or it has steps
  append    stream first n rows latents -> number of new steps, or -1 - next if steps before `first` are missing
  write     stream first n latents [offset size]...
                                        -> number of steps written; with offsets and sizes, only these parts of each
                                           row are given; steps whose value another program holds are skipped
  sync      position events             -> [counts, at most this number of records from `position` on]
  load                                  -> [counts, the streams hash]
  evict     chunks least                -> [chunks freed, slots]: evicts the oldest and lowers the bound accordingly
  clear     id                          -> number of deleted keys
  settle    run                         -> 1, or 0 if it was called before in this run of the server
          `stream` is 8 bytes, most significant first; `counts` are life, number of streams, and the COUNTS below.

A record is stream (8 bytes), next (int64 LE), created (int64 LE): after this event the stream is at step `next`, and
`created` items have been made in all. Items are made in order; the last one of an event starts at next - length. next =
-1: the steps of a stream without items were dropped.

Chunks are written before the record, and the record before the counts; the AOF gets all of a call or nothing. Near
maxmemory Redis refuses the first command of a script that needs memory, but none after a command that wrote: so a call
is also refused as a whole.

A server that finds its AOF torn in the middle of a call drops the call but leaves its first commands in the file. When
another call follows them, they are executed at the next read of the file. So the first call in each run of a server
is `settle`: it rewrites everything that a call changes with its present value, and gives up sequences whose chunks were
deleted in this way.
]]
local RECORD, SEGMENT = 24, 2047 -- a segment of 49,128 bytes is just below a size class of jemalloc
local SETTLED = 63 -- segments after the oldest that `settle` rewrites: no call deletes more
local ROUNDS = 20000 -- limit of eviction steps per call: after a bound is lowered, the excess is evicted gradually
local COUNTS = {
  'created', 'evicted', 'tail', 'head', 'chunks', 'steps', 'inserted', 'drops', 'capacity', 'slots',
  'length', 'chunk_length', 'row_bytes', 'latent_bytes',
}
local MISSING = redis.error_reply('NOREPLAY there is no replay under this prefix')

local format, floor, min, max = string.format, math.floor, math.min, math.max
local prefix = string.sub(KEYS[1], 1, -7)
local count, streams = {}, {}

local function text(n) return format('%.0f', n) end
local function name(stream) return format('%02x%02x%02x%02x%02x%02x%02x%02x', string.byte(stream, 1, 8)) end
local function raw(hex)
  return (string.gsub(hex, '..', function(byte) return string.char(tonumber(byte, 16)) end))
end
local function chunk_key(kind, s, chunk) return prefix .. kind .. s.name .. ':' .. text(chunk) end
local function log_key(position) return prefix .. 'log:' .. text(floor(position / SEGMENT)) end
local function refused(reply) return type(reply) == 'table' and reply.err end
local function at(reply, command, key) return reply.err .. ' [' .. command .. ' ' .. key .. ']' end

-- redis.call, with the place in its errors.
local function call(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if refused(reply) then error(at(reply, command, key), 0) end
  return reply
end

local function load_counts()
  local values = call('HMGET', KEYS[1], unpack(COUNTS))
  for i, field in ipairs(COUNTS) do count[field] = tonumber(values[i]) end
  return count.created
end

local function get_stream(stream)
  local s = streams[stream]
  if not s then
    s = {raw = stream, name = name(stream), next = 0, begin = 0, oldest = 0, seen = 0}
    local saved = call('HGET', prefix .. 'streams', s.name)
    if saved then
      local a, b, c, d = string.match(saved, '(%d+) (%d+) (%d+) (%d+)')
      s.next, s.begin, s.oldest, s.seen = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
    end
    streams[stream] = s
  end
  return s
end

local function is_idle(s) return s.oldest > s.next - count.length end
local function set_idle(s)
  call('ZADD', prefix .. 'idle', s.seen, s.raw)
  s.listed = true
end
local function first_stored(s) return max(s.begin, floor(s.oldest / count.chunk_length) * count.chunk_length) end

local function save()
  for _, s in pairs(streams) do
    if s.changed then
      call('HSET', prefix .. 'streams', s.name, format('%.0f %.0f %.0f %.0f', s.next, s.begin, s.oldest, s.seen))
    end
  end
  call('HSET', KEYS[1], 'created', count.created, 'evicted', count.evicted, 'tail', count.tail, 'head', count.head,
    'chunks', count.chunks, 'steps', count.steps, 'inserted', count.inserted, 'drops', count.drops)
end

local function write_record(s, next)
  local key, place = log_key(count.tail), count.tail % SEGMENT
  if place == 0 then call('SETRANGE', key, SEGMENT * RECORD - 1, '\0') end
  call('SETRANGE', key, place * RECORD, s.raw .. struct.pack('<i8i8', next, count.created))
  count.tail = count.tail + 1
end

local function delete_chunk(s, chunk)
  call('DEL', chunk_key('c:', s, chunk), chunk_key('l:', s, chunk))
  count.chunks = count.chunks - 1
end

-- Evicts the oldest items, at most `limit`, of one chunk and event, and the chunk if no later item starts there.
local function evict(limit)
  local stream, _, created
  while true do
    local at = count.head % SEGMENT * RECORD
    stream, _, created = struct.unpack('<c8i8i8', call('GETRANGE', log_key(count.head), at, at + RECORD - 1))
    if created > count.evicted then break end
    count.head = count.head + 1
    if count.head % SEGMENT == 0 then call('DEL', log_key(count.head - 1)) end
  end
  local s = get_stream(stream)
  local n = min(limit, created - count.evicted, count.chunk_length - s.oldest % count.chunk_length)
  s.oldest, count.evicted, s.changed = s.oldest + n, count.evicted + n, true
  if s.oldest % count.chunk_length == 0 then
    local chunk = s.oldest / count.chunk_length - 1
    delete_chunk(s, chunk)
    count.steps = count.steps - (s.oldest - max(s.begin, chunk * count.chunk_length))
  end
  if is_idle(s) then set_idle(s) end
end

-- Drops the steps of a stream without items; if it continues, it begins anew with its next step.
local function drop(s)
  call('ZREM', prefix .. 'idle', s.raw)
  if s.begin < s.next then
    local first = first_stored(s)
    for chunk = floor(first / count.chunk_length), floor((s.next - 1) / count.chunk_length) do delete_chunk(s, chunk) end
    count.steps = count.steps - (s.next - first)
  end
  s.begin, s.oldest, s.changed = s.next, s.next, true
  count.drops = count.drops + 1
  call('SETRANGE', prefix .. 'life', 16, format('%016.0f', count.drops))
  write_record(s, -1)
end

-- A stream without items and without steps since the oldest item was made has ended: it is evicted first.
local function free_chunks(most, s)
  while count.chunks > most do
    local idle = call('ZRANGE', prefix .. 'idle', 0, 1, 'WITHSCORES')
    local i = s and idle[1] == s.raw and 3 or 1
    local items = count.created - count.evicted
    if idle[i] and (tonumber(idle[i + 1]) <= count.evicted or items == 0) then
      drop(get_stream(idle[i]))
    elseif items > 0 then
      evict(math.huge)
    else
      return
    end
  end
end

local function publish(s, n)
  local first = max(s.oldest, s.next - count.length + 1)
  s.next, s.changed = s.next + n, true
  count.created = count.created + max(0, s.next - count.length + 1 - first)
  count.steps, count.inserted, s.seen = count.steps + n, count.inserted + n, count.created
  write_record(s, s.next)
  for _ = 1, ROUNDS do
    local over = count.created - count.evicted - count.capacity
    if over <= 0 then break end
    evict(over)
  end
end

-- SETRANGE outside the AOF; the value has its full size from the start. Another program's value is left as it is.
local function put_latents(s, chunk, place, part)
  local key = chunk_key('l:', s, chunk)
  redis.set_repl(redis.REPL_NONE)
  local reply = 0
  if call('EXISTS', key) == 0 then
    reply = redis.pcall('SETRANGE', key, count.chunk_length * count.latent_bytes - 1, '\0')
  end
  if not refused(reply) then reply = redis.pcall('SETRANGE', key, place, part) end
  redis.set_repl(redis.REPL_ALL)
  return refused(reply) and redis.error_reply(at(reply, 'SETRANGE', key)) or reply
end
local function foreign(reply) return refused(reply) and string.find(reply.err, 'WRONGTYPE') end

local function counted(...)
  local reply = {call('GET', prefix .. 'life'), call('HLEN', prefix .. 'streams')}
  for _, field in ipairs(COUNTS) do table.insert(reply, count[field]) end
  for _, value in ipairs({...}) do table.insert(reply, value) end
  return reply
end

local calls = {}

function calls.open(meta, id, capacity, slots, length, chunk_length, row_bytes, latent_bytes)
  if load_counts() then return counted(call('GET', prefix .. 'meta'), 0) end
  call('SET', prefix .. 'meta', meta)
  call('SET', prefix .. 'life', id .. format('%016.0f', 0))
  call('HSET', KEYS[1], 'created', 0, 'evicted', 0, 'tail', 0, 'head', 0, 'chunks', 0, 'steps', 0, 'inserted', 0,
    'drops', 0, 'capacity', capacity, 'slots', slots, 'length', length, 'chunk_length', chunk_length,
    'row_bytes', row_bytes, 'latent_bytes', latent_bytes)
  load_counts()
  return counted(meta, 1)
end

function calls.bound(capacity, slots)
  if not load_counts() then return MISSING end
  call('HSET', KEYS[1], 'capacity', capacity, 'slots', slots)
  return 1
end

function calls.begin(stream, writer)
  if not load_counts() then return MISSING end
  local saved, claim = call('HGET', prefix .. 'streams', name(stream)), '0 0 0 0 ' .. writer
  if saved and saved ~= claim then return -1 - tonumber(string.match(saved, '%d+')) end
  call('HSET', prefix .. 'streams', name(stream), claim)
  return 1
end

function calls.append(stream, first, n, rows, latents)
  if not load_counts() then return MISSING end
  local s = get_stream(stream)
  first, n = tonumber(first), tonumber(n)
  if first < 0 or first > s.next then return -1 - s.next end
  local row, new = s.next - first, 0
  s.listed = is_idle(s)
  while row < n do
    local chunk, place = floor(s.next / count.chunk_length), s.next % count.chunk_length
    local key, part, reply = chunk_key('c:', s, chunk), min(count.chunk_length - place, n - row), 0
    if place == 0 or s.begin == s.next then
      free_chunks(count.slots - 1, s)
      if count.chunks >= count.slots then
        return redis.error_reply('ERR ' .. text(count.slots) .. ' chunks cannot hold one stream')
      end
      reply = redis.pcall('SETRANGE', key, count.chunk_length * count.row_bytes - 1, '\0')
      if not refused(reply) then count.chunks = count.chunks + 1 end
    end
    local whole = part == n
    local function cut(value, size)
      return whole and value or string.sub(value, row * size + 1, (row + part) * size)
    end
    if not refused(reply) then
      reply = redis.pcall('SETRANGE', key, place * count.row_bytes, cut(rows, count.row_bytes))
    end
    if refused(reply) then
      if not string.find(reply.err, 'OOM') then save() end -- out of memory: nothing was written before
      return redis.error_reply(at(reply, 'SETRANGE', key))
    end
    if count.latent_bytes > 0 then
      put_latents(s, chunk, place * count.latent_bytes, cut(latents, count.latent_bytes))
    end
    publish(s, part)
    row, new = row + part, new + part
  end
  if new > 0 then
    if is_idle(s) then set_idle(s) elseif s.listed then call('ZREM', prefix .. 'idle', s.raw) end
    save()
  end
  return new
end

function calls.write(stream, first, n, latents, ...)
  if not load_counts() then return MISSING end
  local s, parts, size, written = get_stream(stream), {...}, count.latent_bytes, 0
  first, n = tonumber(first), tonumber(n)
  local given = #parts == 0 and size or 0
  for i = 2, #parts, 2 do given = given + tonumber(parts[i]) end
  local step, stop = max(first, first_stored(s)), min(first + n, s.next)
  while step < stop do
    local chunk, place = floor(step / count.chunk_length), step % count.chunk_length
    local some = #parts == 0 and min(count.chunk_length - place, stop - step) or 1
    local from, reply = (step - first) * given + 1, 0
    if #parts == 0 then
      reply = put_latents(s, chunk, place * size, string.sub(latents, from, from + some * size - 1))
    end
    for i = 1, #parts, 2 do
      local wide = tonumber(parts[i + 1])
      reply = put_latents(s, chunk, place * size + parts[i], string.sub(latents, from, from + wide - 1))
      if refused(reply) then break end
      from = from + wide
    end
    if refused(reply) and not foreign(reply) then return reply end
    step, written = step + some, written + (foreign(reply) and 0 or some)
  end
  return written
end

function calls.sync(position, events)
  if not load_counts() then return MISSING end
  local records, at = {}, tonumber(position)
  local stop = min(count.tail, at + events)
  if at < floor(count.head / SEGMENT) * SEGMENT then stop = at end
  while at < stop do
    local upto = min(stop, (floor(at / SEGMENT) + 1) * SEGMENT)
    local from = at % SEGMENT * RECORD
    table.insert(records, call('GETRANGE', log_key(at), from, from + (upto - at) * RECORD - 1))
    at = upto
  end
  return counted(table.concat(records))
end

function calls.load()
  if not load_counts() then return MISSING end
  return counted(call('HGETALL', prefix .. 'streams'))
end

function calls.evict(chunks, least)
  if not load_counts() then return MISSING end
  call('DEL', prefix .. 'none') -- after a write a script may exceed maxmemory: this one frees memory
  local before = count.chunks
  free_chunks(max(tonumber(least), before - chunks))
  count.slots = max(tonumber(least), min(count.slots, count.chunks))
  save()
  call('HSET', KEYS[1], 'slots', count.slots)
  return {before - count.chunks, count.slots}
end

function calls.clear(id)
  if not load_counts() then return MISSING end
  local deleted = 0
  for _, stream in ipairs(call('HKEYS', prefix .. 'streams')) do
    local s = get_stream(raw(stream))
    for chunk = floor(first_stored(s) / count.chunk_length), floor((s.next - 1) / count.chunk_length) do
      deleted = deleted + call('DEL', chunk_key('c:', s, chunk), chunk_key('l:', s, chunk))
    end
  end
  for position = floor(count.head / SEGMENT) * SEGMENT, count.tail, SEGMENT do call('DEL', log_key(position)) end
  call('DEL', prefix .. 'streams', prefix .. 'idle')
  call('SET', prefix .. 'life', id .. format('%016.0f', 0))
  call('HSET', KEYS[1], 'created', 0, 'evicted', 0, 'tail', 0, 'head', 0, 'chunks', 0, 'steps', 0, 'inserted', 0,
    'drops', 0)
  return deleted
end

function calls.settle(run)
  if not load_counts() then return MISSING end
  if call('HGET', KEYS[1], 'run') == run then return 0 end
  for i = floor(count.head / SEGMENT), min(floor(count.tail / SEGMENT), floor(count.head / SEGMENT) + SETTLED) do
    local key = log_key(i * SEGMENT)
    call('SETRANGE', key, 0, call('GETRANGE', key, 0, -1))
  end
  local function gone(s) return call('EXISTS', chunk_key('c:', s, floor(first_stored(s) / count.chunk_length))) == 0 end
  local saved, each = call('HGETALL', prefix .. 'streams'), {}
  for i = 1, #saved, 2 do table.insert(each, get_stream(raw(saved[i]))) end
  for _, s in ipairs(each) do
    while not is_idle(s) and gone(s) do evict(math.huge) end -- items are evicted in order, whatever their stream
  end
  for _, s in ipairs(each) do
    if s.begin < s.next and is_idle(s) and gone(s) then drop(s) end
  end
  call('DEL', prefix .. 'streams', prefix .. 'idle')
  count.chunks, count.steps = 0, 0
  for i, s in ipairs(each) do
    s.changed = s.next > 0
    if not s.changed then call('HSET', prefix .. 'streams', s.name, saved[2 * i]) end -- including its writer
    local ahead = floor((s.begin < s.next and s.next - 1 + count.chunk_length or s.next) / count.chunk_length)
    while call('DEL', chunk_key('c:', s, ahead), chunk_key('l:', s, ahead)) > 0 do ahead = ahead + 1 end
    if s.begin < s.next then
      local first = first_stored(s)
      count.chunks = count.chunks + floor((s.next - 1) / count.chunk_length) - floor(first / count.chunk_length) + 1
      count.steps = count.steps + s.next - first
      if is_idle(s) then set_idle(s) end
    end
  end
  count.drops = count.drops + 1 -- makes readers of chunks repeat their read
  call('SET', prefix .. 'life', string.sub(call('GET', prefix .. 'life'), 1, 16) .. format('%016.0f', count.drops))
  save()
  for _, field in ipairs(COUNTS) do call('HSET', KEYS[1], field, text(count[field])) end
  call('HSET', KEYS[1], 'run', run)
  return 1
end

return calls[ARGV[1]](unpack(ARGV, 2))
