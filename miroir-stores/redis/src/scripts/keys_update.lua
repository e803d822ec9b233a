-- ARGV[2]: uid. ARGV[3]: the record as it was read. ARGV[4]: the record to be. Answers whether it was
-- still as it was read.
local key = p .. 'api_key:' .. ARGV[2]
if call('HGET', key, 'record') ~= ARGV[3] then
  return 0
end
call('HSET', key, 'record', ARGV[4])
return 1
