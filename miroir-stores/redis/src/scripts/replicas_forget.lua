-- ARGV[2]: index. ARGV[3]: the strength of rows that stay.
local rows = p .. 'stale_replicas:of:' .. ARGV[2]
local all = call('HGETALL', rows)
for position = 1, #all, 2 do
  if string.match(all[position + 1], '^%d+') ~= ARGV[3] then
    call('HDEL', rows, all[position])
  end
end
if call('EXISTS', rows) == 0 then
  call('SREM', p .. 'stale_replicas:_index', ARGV[2])
end
return 0
