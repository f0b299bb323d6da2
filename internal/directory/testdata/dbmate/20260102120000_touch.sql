-- migrate:up
CREATE FUNCTION touch() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RETURN 1;
END;
$$;

-- migrate:down
DROP FUNCTION touch;
