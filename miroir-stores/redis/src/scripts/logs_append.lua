-- ARGV[2]: log. ARGV[3]: key. ARGV[4]: entry. ARGV[5]: most entries. ARGV[6]: most bytes. Answers how
-- many went.
local list, meta = names(ARGV[2], ARGV[3])
call('HINCRBY', meta, 'last', 1)
local bytes = call('HINCRBY', meta, 'bytes', #ARGV[4])
local entries = call('RPUSH', list, ARGV[4])
local gone, most, most_bytes = 0, tonumber(ARGV[5]), tonumber(ARGV[6])
while entries > 1 and (entries > most or bytes > most_bytes) do
  bytes = bytes - #call('LPOP', list)
  entries = entries - 1
  gone = gone + 1
end
call('HSET', meta, 'bytes', string.format('%d', bytes))
return gone
