-- ARGV[1]: kind. Answers its jobs, oldest first.
local found = {}
for at, id in ipairs(call('ZRANGE', p .. 'jobs:of:' .. ARGV[1], 0, -1)) do
  found[at] = show(id)
end
return found
