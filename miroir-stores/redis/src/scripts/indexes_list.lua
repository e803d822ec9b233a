-- Answers all records, by name.
local out = {}
for _, name in ipairs(call('ZRANGE', p .. 'indexes:_index', 0, -1)) do
  out[#out + 1] = call('HGET', p .. 'index:' .. name, 'record')
end
return out
