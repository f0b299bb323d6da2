CREATE TABLE gate (opened timestamptz NOT NULL DEFAULT now());
