-- From ARGV[2] on: parts that changed. Answers the new epoch.
local new = call('INCR', epoch)
for position = 2, #ARGV do
  call('HSET', parts, ARGV[position], string.format('%d', new))
end
return new
