"""The first hour of a newcomer, step by step, and the test that takes each step.

A test of Docker, a browser or a VM runs where these are; `make test` says which were skipped.
"""

from __future__ import annotations

from typing import Final

STEPS: Final = (
    # From the README to the page
    (
        "make up on a fresh account",
        "sandbox/test_fresh_account.py::test_both_commands_work_on_a_fresh_account",
    ),
    (
        "paste the lines that up ends with",
        "sandbox/test_sandbox.py::test_up_ends_with_lines_that_work_when_pasted",
    ),
    (
        "copy the key from a narrow terminal",
        "sandbox/test_sandbox.py::test_the_key_is_whole_in_a_narrow_terminal",
    ),
    (
        "sign in on the page with a wrong key",
        "browser/test_page.py::test_a_wrong_key_is_refused_and_shows_nothing",
    ),
    (
        "see mode, sessions and the next step",
        "browser/test_page.py::test_both_sessions_the_mode_and_the_next_step_are_shown",
    ),
    (
        "pull the plug and watch it heal",
        "browser/test_page.py::test_a_fault_is_seen_and_so_is_the_recovery",
    ),
    (
        "leave the page open while the bridge is gone",
        "browser/test_page.py::test_old_values_never_look_new_and_the_page_finds_back",
    ),
    ("run up a second time", "sandbox/test_sandbox.py::test_a_second_up_restarts_nothing"),
    (
        "make down with a stack.yaml beside it",
        "deploy/test_setup.py::test_make_up_and_down_mean_the_sandbox_whatever_stack_yaml_says",
    ),
    (
        "look for what is left after down",
        "sandbox/test_sandbox.py::test_down_leaves_nothing_behind",
    ),
    # The command line
    ("ask for the version", "newcomer/test_steps.py::test_the_version"),
    ("read --help", "deploy/test_cli.py::test_help_lists_every_command_and_is_kept_ready"),
    ("read a command's examples", "deploy/test_cli.py::test_every_command_has_help_with_examples"),
    ("mistype a command", "newcomer/test_steps.py::test_a_mistyped_command"),
    (
        "read everything on 60 columns",
        "newcomer/test_steps.py::test_it_fits_a_narrow_terminal",
    ),
    ("press Tab", "deploy/test_cli.py::test_completion_in_bash"),
    (
        "press Ctrl-C while following the log",
        "newcomer/test_steps.py::test_ctrl_c_on_a_log_is_silent",
    ),
    (
        "start the bridge's commands by hand",
        "bridge/api/test_process.py::test_a_command_by_hand_says_what_is_missing_and_makes_nothing",
    ),
    # Configuring a machine
    (
        "answer the wizard, also wrongly",
        "deploy/test_cli.py::test_the_wizard_asks_for_what_the_flags_leave_open",
    ),
    ("write stack.yaml with flags", "deploy/test_cli.py::test_init_with_flags_gives_a_valid_file"),
    (
        "set a secret before init",
        "deploy/test_cli.py::test_a_secret_before_init_is_told_what_comes_first",
    ),
    ("type the password", "deploy/test_cli.py::test_a_secret_typed_at_the_prompt_is_not_shown"),
    (
        "mistype a key of stack.yaml",
        "deploy/test_cli.py::test_problems_are_lines_with_places_and_hints",
    ),
    ("see what takes effect", "deploy/test_cli.py::test_config_shows_what_takes_effect"),
    (
        "give an address for alerts",
        "deploy/test_cli.py::test_an_address_for_alerts_is_checked_and_never_shown",
    ),
    (
        "meet an unknown host key",
        "deploy/transport/test_hostile_host.py::test_an_unknown_key_is_compared_in_the_console",
    ),
    (
        "name an identity file that is not there",
        "deploy/transport/test_hostile_host.py::test_a_missing_identity_is_named",
    ),
    (
        "prepare a bare machine",
        "vm/test_vm.py::test_a_bare_machine_becomes_ready_even_when_the_power_fails_meanwhile",
    ),
    ("find a port taken", "deploy/apply/test_session.py::test_a_taken_port_names_its_key"),
    ("deploy, and see it healthy", "engine/test_up.py::test_first_up_ends_healthy"),
    (
        "let the 2FA prompt pass",
        "engine/test_login.py::test_2fa_is_waited_for_and_nothing_is_torn_down",
    ),
    # A phone
    (
        "read a new key with the camera",
        "sandbox/test_operator.py::test_a_phone_can_read_the_key_from_a_terminal",
    ),
    (
        "sign in on the phone with it",
        "newcomer/test_steps.py::test_a_phone_sees_everything_and_trades_nothing",
    ),
    ("read /docs on the phone", "newcomer/test_steps.py::test_the_docs_fit_a_phone"),
    ("lose the phone", "newcomer/test_steps.py::test_a_lost_phone_is_one_command"),
    # Trading
    (
        "write buy and STP LMT in an order",
        "newcomer/test_steps.py::test_a_wrong_word_in_an_order_names_the_right_one",
    ),
    (
        "place the first order, see it filled",
        "browser/test_page.py::test_an_open_order_and_a_fill_appear_by_themselves",
    ),
    (
        "sell a put with take-profit and stop",
        "newcomer/test_steps.py::test_a_stop_on_an_option_is_told_its_limit",
    ),
    (
        "halt, try to trade, resume",
        "newcomer/test_steps.py::test_a_halt_from_the_command_line_is_felt",
    ),
    (
        "settle an order whose fate is unknown",
        "browser/test_page.py::test_what_needs_a_person_is_the_sentence_and_an_order_can_be_settled",
    ),
    # Looking for help
    ("ask doctor and diagnose", "sandbox/test_operator.py::test_looking_at_a_sandbox"),
    (
        "ask eleven questions of the docs",
        "newcomer/test_questions.py::test_the_answer_is_one_link_away",
    ),
    ("paste the commands of every page", "docs/test_commands.py::test_commands_work_when_pasted"),
)
"""What the newcomer does, and `file::test` below tests/."""
