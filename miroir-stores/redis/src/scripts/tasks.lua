-- The rows of the task registry, and where lists find them.
--
-- `tasks:<uid>` is a hash: `record` is the task as JSON, without its uid and index, `row` what lists
-- filter by: `status kind canceled_by enqueued started finished index`. Instants are 22 digits, an
-- absent value is `-`, an index is `=name` or nothing.
local TERMINAL = { succeeded = true, failed = true, canceled = true }

local function parse(row)
  local t = {}
  t.status, t.kind, t.by, t.enqueued, t.started, t.finished, t.index =
    string.match(row, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  return t
end

local function format(t)
  return table.concat({ t.status, t.kind, t.by, t.enqueued, t.started, t.finished, t.index }, ' ')
end

local function key(uid)
  return p .. 'tasks:' .. string.format('%d', uid)
end

-- The task with this uid, or nil.
local function get(uid)
  local row = call('HGET', key(uid), 'row')
  return row and parse(row)
end

-- The sorted sets a task is in besides `tasks:_index`, by key. Those ordered by uid have it as their
-- score; those ordered by time have members that begin with the time and end with the uid.
local function places(uid, t)
  local all = {}
  local bucket = t.status .. ':' .. t.kind
  all[p .. 'tasks:_by:' .. bucket] = { score = uid, member = uid, bucket = bucket }
  if t.index ~= '' then
    local name = string.sub(t.index, 2)
    all[p .. 'tasks:_of:' .. bucket .. ':' .. name] =
      { score = uid, member = uid, bucket = bucket, name = name }
  end
  if t.by ~= '-' then
    all[p .. 'tasks:_canceled_by:' .. t.by] = { score = uid, member = uid }
  end
  for _, axis in ipairs({ 'enqueued', 'started', 'finished' }) do
    if t[axis] ~= '-' then
      all[p .. 'tasks:_' .. axis] = { score = 0, member = t[axis] .. string.format('%010d', uid) }
    end
  end
  return all
end

local function enter(place, at)
  call('ZADD', place, at.score, at.member)
  if at.name then
    call('SADD', p .. 'tasks:_buckets:' .. at.name, at.bucket)
    call('ZADD', p .. 'tasks:_names', 0, at.name)
  elseif at.bucket then
    call('SADD', p .. 'tasks:_buckets', at.bucket)
  end
end

local function leave(place, at)
  call('ZREM', place, at.member)
  if not at.bucket or call('EXISTS', place) == 1 then
    return
  end
  if not at.name then
    call('SREM', p .. 'tasks:_buckets', at.bucket)
    return
  end
  local buckets = p .. 'tasks:_buckets:' .. at.name
  call('SREM', buckets, at.bucket)
  if call('EXISTS', buckets) == 0 then
    call('ZREM', p .. 'tasks:_names', at.name)
  end
end

-- Moves a task from where `old` was found to where `new` is; either may be nil.
local function move(uid, old, new)
  local from, to = old and places(uid, old) or {}, new and places(uid, new) or {}
  for place, at in pairs(to) do
    if not from[place] or from[place].member ~= at.member then
      enter(place, at)
    end
  end
  for place, at in pairs(from) do
    if not to[place] or to[place].member ~= at.member then
      leave(place, at)
    end
  end
end

local function forget(uid, t)
  move(uid, t, nil)
  call('ZREM', p .. 'tasks:_index', uid)
  call('DEL', key(uid))
end

-- Appends uid, index and record of a task to an answer.
local function show(out, uid)
  local found = call('HMGET', key(uid), 'row', 'record')
  out[#out + 1] = uid
  out[#out + 1] = parse(found[1]).index
  out[#out + 1] = found[2]
end
