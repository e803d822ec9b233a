-- From ARGV[2] on: index, `shard:node`, strength. Each row gets a generation that was never given
-- before; a stronger kind stays.
local generation = p .. 'stale_replicas:_generation'
for position = 2, #ARGV, 3 do
  local index, row, strength = ARGV[position], ARGV[position + 1], tonumber(ARGV[position + 2])
  local rows = p .. 'stale_replicas:of:' .. index
  local next = call('INCR', generation)
  local old = call('HGET', rows, row)
  if old then
    strength = math.max(strength, tonumber(string.match(old, '^%d+')))
  end
  call('HSET', rows, row, string.format('%d:%d', strength, next))
  call('SADD', p .. 'stale_replicas:_index', index)
end
return 0
