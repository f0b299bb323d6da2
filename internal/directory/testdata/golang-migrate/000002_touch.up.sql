ALTER TABLE accounts ADD COLUMN download_count int NOT NULL DEFAULT 0;

CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.download_count := NEW.download_count + 1;
    RETURN NEW;
END;
$$;
CREATE TRIGGER touch BEFORE UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION touch(); UPDATE accounts SET email = 'it''s;@example.com' WHERE id = 1;
