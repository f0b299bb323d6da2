// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"fmt"
	"strings"
	"testing"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/mysql"
	"ariga.io/atlas/sql/postgres"

	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// texts are files of SQL for both dialects, those for one of them too.
var texts = map[string]string{
	"two":              "SELECT 1;\nSELECT 2;\n",
	"no newline":       "SELECT 1;\n\nSELECT 2",
	"one line":         "SELECT 1; SELECT 2;",
	"empty":            "",
	"blank":            " \n\t\r\n",
	"comments":         "-- One.\nSELECT 1; -- two\n/* three; */ SELECT 4;\n-- five\n\n-- six\nSELECT 7; -- eight\n",
	"strings":          "INSERT INTO a VALUES ('a;b', \"c;d\", `e;f`, 'it''s');\nSELECT 1;",
	"parentheses":      "CREATE TABLE a (\n  i int, -- ;)\n  j int\n);\nSELECT (1);",
	"Windows":          "-- One.\r\nSELECT 1;\r\n\r\nSELECT\r\n  2;\r\n",
	"letters":          "SELECT 'ä;ö';\nSELECT 'ü';",
	"delimiter":        "-- atlas:delimiter \\n\\n\nSELECT 1;\nSELECT 2;\n\nSELECT 3;\n",
	"DELIMITER":        "SELECT 1;\nDELIMITER //\nCREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END//\nDELIMITER ;\nSELECT 3;",
	"block":            "CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW BEGIN\n  SET @x = 1;\n  SET @y = 2;\nEND;\nSELECT 1;",
	"nested blocks":    "CREATE PROCEDURE p()\nBEGIN\n  IF 1 THEN\n  BEGIN\n    SELECT 1;\n  END;\n  END IF;\nEND;\nSELECT 1;",
	"hash":             "# a; b\nSELECT 1; # c; d\nSELECT 2;",
	"escape":           "SELECT 'a\\';b'; SELECT 'c';",
	"dollars":          "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $x$ BEGIN RETURN $$;$$; END; $x$;\nSELECT 1;",
	"do":               "DO $$ BEGIN PERFORM 1; END $$;\nSELECT 1;",
	"atomic":           "CREATE FUNCTION f() RETURNS int LANGUAGE SQL BEGIN ATOMIC SELECT 1; SELECT 2; END;\nSELECT 1;",
	"transaction":      "BEGIN TRANSACTION;\nSELECT 1;\nCOMMIT;\nBEGIN;SELECT 1;\nROLLBACK;",
	"column of a name": "CREATE TABLE a (\n  begin int,\n  end int);\nSELECT 1;",
}

// TestSplitAsAtlas: where Atlas's drivers split a file, so it is split here. Positions are those in the file.
func TestSplitAsAtlas(t *testing.T) {
	for dialect, driver := range map[Dialect]migrate.StmtScanner{Postgres: &postgres.Driver{}, MySQL: &mysql.Driver{}} {
		for name, text := range texts {
			t.Run(fmt.Sprint(dialect, " ", name), func(t *testing.T) {
				if dialect == Postgres && strings.Contains(name, "block") {
					t.Skip("PostgreSQL has no such blocks outside of quotes")
				}
				want, errWant := driver.ScanStmts(text)
				f := parse(t, "", dialect, text)
				if errWant != nil {
					mustRefuse(t, f.Err(), v1alpha1.IntegrityFailed, "1.sql", "1.sql:"+errWant.Error())
					return
				}
				for _, s := range want {
					s.Pos = 0
				}
				var got []*migrate.Stmt
				for _, s := range f.Statements() {
					if !strings.HasPrefix(text[s.Pos:], s.Text) {
						t.Errorf("at %d is not %q", s.Pos, s.Text)
					}
					got = append(got, &migrate.Stmt{Text: s.Text, Comments: s.Comments})
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("statements (-Atlas +here):\n%s", diff)
				}
			})
		}
	}
}

func TestCommentAtTheEndIsNoStatement(t *testing.T) {
	for _, text := range []string{"SELECT 1;\n-- two", "SELECT 1; -- two", "-- one\nSELECT 1;\n\n-- two"} {
		if f := parse(t, "", MySQL, text); f.Err() != nil || len(f.Statements()) != 1 {
			t.Errorf("%q: %v, %v", text, f.Statements(), f.Err())
		}
	}
}

// TestOpenBlocks: the scanner's work doubles with each BEGIN that it finds no END for.
func TestOpenBlocks(t *testing.T) {
	const transaction = "BEGIN WORK;\nINSERT INTO a VALUES ('begin ');\nCOMMIT;\n"
	block := texts["block"]
	for name, c := range map[string]struct {
		dialect Dialect
		text    string
		want    int // 0 where it is refused
	}{
		"transactions of PostgreSQL":         {Postgres, strings.Repeat(transaction, 100), 300},
		"with functions of PostgreSQL":       {Postgres, strings.Repeat(transaction+texts["do"], 100), 500},
		"atomic, without an end":             {Postgres, strings.Repeat("BEGIN ATOMIC SELECT 1;\n", 100), 100},
		"atomic, one with an end":            {Postgres, strings.Repeat("BEGIN ATOMIC SELECT 1;\n", 100) + texts["atomic"], 0},
		"transactions of MySQL":              {MySQL, strings.Repeat(transaction, 100), 300},
		"triggers of MySQL":                  {MySQL, strings.Repeat(block, 100), 200},
		"few transactions besides a trigger": {MySQL, strings.Repeat(strings.Replace(transaction, "begin ", "", 1), 5) + block, 17},
		"many besides a trigger":             {MySQL, strings.Repeat(transaction, 100) + block, 0},
		"many besides a delimiter":           {MySQL, "-- atlas:delimiter \\n\\n\n" + strings.Repeat(transaction+"\n", 100) + block, 101},
	} {
		t.Run(name, func(t *testing.T) {
			f := parse(t, "", c.dialect, c.text)
			if c.want == 0 {
				mustRefuse(t, f.Err(), v1alpha1.IntegrityFailed, "1.sql", "-- atlas:delimiter")
			} else if f.Err() != nil || len(f.Statements()) != c.want {
				t.Errorf("%d statements, want %d: %v", len(f.Statements()), c.want, f.Err())
			}
		})
	}
}
