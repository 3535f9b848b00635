"""The statements of budgets, which SQLite and PostgreSQL both understand.

A question mark stands for a parameter.
"""

from __future__ import annotations

from llmevents.llm.budgets._units import LARGEST


LOAD = """
    SELECT id, spent, reserved, held, entries, announced,
        (SELECT min(expires) FROM budget_holds WHERE account_id = id),
        (SELECT min(moment) FROM budget_windows WHERE account_id = id)
    FROM budget_accounts WHERE id IN ({})
"""

ADD = """
    INSERT INTO budget_accounts (id, budget, account, spent, reserved, held, entries,
        announced, forget_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

CHANGE = """
    UPDATE budget_accounts
    SET spent = ?, reserved = ?, held = ?, entries = ?, announced = ? WHERE id = ?
"""

NAMES = "SELECT account FROM budget_accounts WHERE budget = ? ORDER BY account"

DUE = """
    SELECT id, account FROM budget_accounts
    WHERE forget_at <= ? ORDER BY forget_at LIMIT ?
"""

LATER = "UPDATE budget_accounts SET forget_at = ? WHERE id = ?"

FORGET = (
    "DELETE FROM budget_holds WHERE account_id = ?",
    "DELETE FROM budget_windows WHERE account_id = ?",
    "DELETE FROM budget_accounts WHERE id = ?",
)

HOLD = """
    INSERT INTO budget_holds (token, number, account_id, amount, expires)
    VALUES (?, ?, ?, ?, ?)
"""

HELD = "SELECT number FROM budget_holds WHERE token = ? AND expires > ?"

END = "DELETE FROM budget_holds WHERE token = ?"

EXPIRED = "SELECT amount FROM budget_holds WHERE account_id = ? AND expires <= ?"

EXPIRE = "DELETE FROM budget_holds WHERE account_id = ? AND expires <= ?"

SPEND = f"""
    INSERT INTO budget_windows (account_id, moment, amount) VALUES (?, ?, ?)
    ON CONFLICT (account_id, moment) DO UPDATE SET amount = CASE
        WHEN budget_windows.amount > {LARGEST} - excluded.amount THEN {LARGEST}
        ELSE budget_windows.amount + excluded.amount END
"""  # noqa: S608  # of a constant
"""What is too large for the column stops at the largest number."""

LEFT = "SELECT amount FROM budget_windows WHERE account_id = ? AND moment <= ?"

OLDEST = "SELECT min(moment) FROM budget_windows WHERE account_id = ? AND moment > ?"

TRIM = "DELETE FROM budget_windows WHERE account_id = ? AND moment <= ?"

RECENT = """
    SELECT moment, amount FROM budget_windows WHERE account_id = ? ORDER BY moment
"""

EMPTY = "DELETE FROM budget_windows WHERE account_id = ?"
