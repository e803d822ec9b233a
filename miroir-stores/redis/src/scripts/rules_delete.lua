-- ARGV[2]: uid, or nothing for all of them.
if ARGV[2] then
  call('HDEL', p .. 'rules', ARGV[2])
else
  call('DEL', p .. 'rules')
end
return 0
