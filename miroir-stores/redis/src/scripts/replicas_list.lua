-- Answers index, `shard:node` and `strength:generation:tasks` of every row, in no order.
local out = {}
for _, index in ipairs(call('SMEMBERS', p .. 'stale_replicas:_index')) do
  local rows = call('HGETALL', p .. 'stale_replicas:of:' .. index)
  for position = 1, #rows, 2 do
    out[#out + 1] = index
    out[#out + 1] = rows[position]
    out[#out + 1] = rows[position + 1]
  end
end
return out
