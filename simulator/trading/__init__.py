"""The broker's side of orders: matching engine, order life cycle, executions, commissions."""
