-- The id of the call that this one turned out to be a part of: everything that is told of it is kept there.
ALTER TABLE calls ADD COLUMN part_of TEXT;
