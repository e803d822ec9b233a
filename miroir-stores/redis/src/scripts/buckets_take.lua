-- ARGV[2]: key. ARGV[3]: how many. ARGV[4]: within how many microseconds. The sums are those of
-- `miroir::store::records::step`. Answers whether it is allowed, how many more would be, and the
-- microseconds until one is and until all are.
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local count = math.max(tonumber(ARGV[3]), 1)
local each = math.floor(math.max(tonumber(ARGV[4]), count) / count)
local whole = each * count
local bucket = p .. 'ratelimit:' .. ARGV[2]
local full_at = math.max(tonumber(call('GET', bucket) or '0'), now)
local after = full_at + each
if after > now + whole then
  return { 0, 0, after - now - whole, full_at - now }
end
call('SET', bucket, string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
local left = now + whole - after
local remaining = math.floor(left / each)
local wait = remaining > 0 and 0 or each - left % each
return { 1, remaining, wait, after - now }
