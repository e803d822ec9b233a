-- ARGV[2]: id. Answers whether there was one.
local kind = call('HGET', key(ARGV[2]), 'kind')
if not kind then
  return 0
end
drop(ARGV[2], kind)
return 1
