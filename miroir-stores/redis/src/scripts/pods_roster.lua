-- Who is there.
return roster()
