-- Answers each status that tasks have, followed by how many have it.
local counts, out = {}, {}
for _, bucket in ipairs(call('SMEMBERS', p .. 'tasks:_buckets')) do
  local status = string.match(bucket, '^(.-):')
  counts[status] = (counts[status] or 0) + call('ZCARD', p .. 'tasks:_by:' .. bucket)
end
for status, count in pairs(counts) do
  out[#out + 1] = status
  out[#out + 1] = count
end
return out
