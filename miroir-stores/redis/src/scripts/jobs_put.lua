-- From ARGV[2] on: id, kind, payload. Answers how many were new.
return add(2)
