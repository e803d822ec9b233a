-- ARGV[2]: id. ARGV[3]: attempt. From ARGV[4] on: what follows, as for `jobs_put`. Answers whether the
-- claim counted.
local kind = claimed(ARGV[2], ARGV[3])
if not kind then
  return 0
end
drop(ARGV[2], kind)
add(4)
return 1
