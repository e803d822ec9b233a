-- In front of scripts about jobs. `jobs:is:<id>`: kind, payload, cursor, attempt, number, and error
-- if it is not tried any more. `jobs:of:<kind>`: id by number, all of them. `jobs:open:<kind>`: ids
-- that may be claimed: by number, or by the end of their claim in milliseconds since 1970, which is
-- a larger one.
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function key(id)
  return p .. 'jobs:is:' .. id
end
local function add(first)
  local new = 0
  for at = first, #ARGV, 3 do
    local id, kind = ARGV[at], ARGV[at + 1]
    if call('EXISTS', key(id)) == 0 then
      local number = call('INCR', p .. 'jobs:_next')
      call('HSET', key(id), 'kind', kind, 'payload', ARGV[at + 2], 'cursor', 'null', 'attempt', 0,
        'number', number)
      call('ZADD', p .. 'jobs:of:' .. kind, number, id)
      call('ZADD', p .. 'jobs:open:' .. kind, number, id)
      new = new + 1
    end
  end
  return new
end
-- The kind of a job whose claim counts.
local function claimed(id, attempt)
  local held = call('HMGET', key(id), 'kind', 'attempt')
  if held[2] ~= attempt then
    return nil
  end
  local until_ = tonumber(call('ZSCORE', p .. 'jobs:open:' .. held[1], id) or '0')
  -- Numbers of jobs are far below any instant.
  return until_ > now and held[1] or nil
end
local function drop(id, kind)
  call('DEL', key(id))
  call('ZREM', p .. 'jobs:of:' .. kind, id)
  call('ZREM', p .. 'jobs:open:' .. kind, id)
end
local function show(id)
  local row = call('HMGET', key(id), 'kind', 'payload', 'cursor', 'attempt', 'error')
  return { id, row[1], row[2], row[3], row[4], row[5] or '' }
end
