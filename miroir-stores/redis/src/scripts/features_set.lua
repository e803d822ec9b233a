-- From ARGV[2] on: name, and 1 or 0.
for position = 2, #ARGV, 2 do
  call('HSET', p .. 'features', ARGV[position], ARGV[position + 1])
end
return 0
