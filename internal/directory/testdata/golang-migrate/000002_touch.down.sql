DROP FUNCTION touch CASCADE; ALTER TABLE accounts DROP COLUMN download_count;
