"""Orders: qualified, checked, journalled, sent once, and followed to their end; executions."""
