DROP INDEX accounts_count;
