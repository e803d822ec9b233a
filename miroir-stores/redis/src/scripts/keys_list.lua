-- Answers all records, the one inserted last first.
local out = {}
for _, uid in ipairs(call('ZRANGE', p .. 'api_keys:_index', 0, -1, 'REV')) do
  out[#out + 1] = call('HGET', p .. 'api_key:' .. uid, 'record')
end
return out
