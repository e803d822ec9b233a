-- In front of scripts about pods. `pods`: name to report. `pods:_until`: name to the end of its word,
-- in milliseconds since 1970. `pods:_epoch`: the newest epoch. `pods:_parts`: part to the epoch in which it
-- changed last. `pods:_told`: name to the epoch that was answered to its last report, and when.
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reports, ends, epoch = p .. 'pods', p .. 'pods:_until', p .. 'pods:_epoch'
local parts, told = p .. 'pods:_parts', p .. 'pods:_told'
-- The epoch, whether a word was accepted, the epochs of parts, and the reports of pods whose word counts.
local function roster(accepted)
  local all, list = call('HGETALL', parts), {}
  for at = 1, #all, 2 do
    list[#list + 1] = all[at] .. '=' .. all[at + 1]
  end
  local found = { call('GET', epoch) or '0', accepted and '1' or '0', table.concat(list, ' ') }
  local until_ = call('HGETALL', ends)
  for at = 1, #until_, 2 do
    if tonumber(until_[at + 1]) > now then
      found[#found + 1] = call('HGET', reports, until_[at])
    end
  end
  return found
end
