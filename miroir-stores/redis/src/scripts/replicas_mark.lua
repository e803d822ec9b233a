-- ARGV[2]: how many tasks a row waits for at most. From ARGV[3] on: index, `shard:node`, strength, the
-- strength where nobody knows of the tasks, and the tasks, each followed by a comma. Each row gets a
-- generation that was never given before; a stronger kind stays, and a pending row waits for the tasks
-- of both.
local PENDING = 10
local generation = p .. 'stale_replicas:_generation'
for position = 3, #ARGV, 5 do
  local index, row, strength = ARGV[position], ARGV[position + 1], tonumber(ARGV[position + 2])
  local rows = p .. 'stale_replicas:of:' .. index
  local next = call('INCR', generation)
  local uids, seen = {}, {}
  local function add(list)
    for uid in string.gmatch(list, '%d+') do
      if not seen[uid] then
        seen[uid] = true
        uids[#uids + 1] = uid
      end
    end
  end
  local old = call('HGET', rows, row)
  if old then
    strength = math.max(strength, tonumber(string.match(old, '^%d+')))
    add(string.match(old, '^%d+:%d+:(.*)$') or '')
  end
  add(ARGV[position + 4])
  if #uids > tonumber(ARGV[2]) then
    strength = math.max(strength, tonumber(ARGV[position + 3]))
  end
  if strength ~= PENDING then
    uids = {}
  end
  table.sort(uids, function(a, b) return tonumber(a) < tonumber(b) end)
  call('HSET', rows, row, string.format('%d:%d:%s', strength, next, table.concat(uids, ',')))
  call('SADD', p .. 'stale_replicas:_index', index)
end
return 0
