-- In front of scripts about pods. `pods`: name to report. `pods:_until`: name to the end of its word,
-- in milliseconds since 1970. `pods:_epoch`: the newest epoch.
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reports, ends, epoch = p .. 'pods', p .. 'pods:_until', p .. 'pods:_epoch'
-- The epoch, and the reports of pods whose word counts.
local function roster()
  local found = { call('GET', epoch) or '0' }
  local until_ = call('HGETALL', ends)
  for at = 1, #until_, 2 do
    if tonumber(until_[at + 1]) > now then
      found[#found + 1] = call('HGET', reports, until_[at])
    end
  end
  return found
end
