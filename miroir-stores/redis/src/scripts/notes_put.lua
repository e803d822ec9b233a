-- ARGV[2]: the note.
call('RPUSH', p .. 'pods:_notes', ARGV[2])
return 0
