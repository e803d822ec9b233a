-- ARGV[2]: index. ARGV[3]: `shard:node`. ARGV[4]: generation. Answers whether the row was of that
-- generation and is gone now.
local rows = p .. 'stale_replicas:of:' .. ARGV[2]
local row = call('HGET', rows, ARGV[3])
if not row or string.match(row, '^%d+:(%d+)') ~= ARGV[4] then
  return 0
end
call('HDEL', rows, ARGV[3])
if call('EXISTS', rows) == 0 then
  call('SREM', p .. 'stale_replicas:_index', ARGV[2])
end
return 1
