-- In front of scripts about records. ARGV[i]: what the names of a table's keys begin with. A record is
-- its version, a space, and JSON; `<table>_index` has the keys by the end of their time in milliseconds
-- since 1970.
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function split(text)
  local at = string.find(text, ' ', 1, true)
  return string.sub(text, 1, at - 1), string.sub(text, at + 1)
end
local function name(table_, key)
  return p .. table_ .. ':' .. key
end
local function index(table_)
  return p .. table_ .. '_index'
end
