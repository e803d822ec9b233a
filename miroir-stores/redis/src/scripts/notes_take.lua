-- Answers all notes, and forgets them.
local notes = call('LRANGE', p .. 'pods:_notes', 0, -1)
call('DEL', p .. 'pods:_notes')
return notes
