-- atlas:txmode none
CREATE INDEX CONCURRENTLY accounts_count ON accounts (download_count);
