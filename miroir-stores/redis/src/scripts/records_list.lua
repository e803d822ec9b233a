-- ARGV[1]: table. Answers key, version and record of each.
local found = {}
for _, key in ipairs(call('ZRANGE', index(ARGV[1]), '(' .. now, '+inf', 'BYSCORE')) do
  local text = call('GET', name(ARGV[1], key))
  if text then
    local version, record = split(text)
    found[#found + 1] = { key, version, record }
  end
end
return found
