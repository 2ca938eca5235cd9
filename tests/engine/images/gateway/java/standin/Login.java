package standin;

import java.util.TimerTask;
import javax.swing.JDialog;
import javax.swing.JFrame;
import javax.swing.SwingUtilities;

/** The login window and what follows it, on the event thread, by the scenario's step. */
final class Login {
    /** IBKR closes a push that nobody answers after three minutes. */
    private static final int APPROVAL_SECONDS = 180;

    private final Gateway gateway;
    private final Scenario scenario;
    private final LauncherLog launcher;
    private final Codes codes = new Codes();
    private final Windows.LoginFrame frame = new Windows.LoginFrame(this::submitted);
    private final JFrame splash = Windows.splash();
    private JDialog dialog;
    private int attempts;
    private String user = "";

    Login(Gateway gateway) {
        this.gateway = gateway;
        this.scenario = gateway.scenario();
        this.launcher = gateway.launcher();
    }

    void show(Scenario.Step step) {
        if (step.name().equals("frame")) {
            // IBC: AbstractLoginHandler watches this label of a live login (TWS's window has it).
            frame.heading.setText("LOGIN");
        }
        frame.setVisible(true);
        if (!gateway.restartFolder().isEmpty()) {
            // No controller chooses the mode of a session that goes on.
            frame.paper.setSelected(!"live".equalsIgnoreCase(Scenario.firstOf("IBC_TRADING_MODE", "TRADING_MODE")));
            gateway.after(800, this::resume);
        }
    }

    // --- with a saved token ---------------------------------------------------------------------
    private void resume() {
        launcher.attempt(++attempts);
        frame.login.setEnabled(false);
        boolean good = gateway.takeToken();
        String step = scenario.peek().name();
        boolean refused = step.startsWith("token");
        if (refused) {
            scenario.take();
        }
        if (good && !refused) {
            scenario.record("token", "accepted");
            launcher.opened("SOFT", false, true, "");
            begin();
            gateway.after(500, () -> complete(false));
            return;
        }
        scenario.record("token", "refused");
        launcher.opened("SOFT", true, true, "");
        begin();
        gateway.after(500, () -> {
            switch (step) {
                case "tokenfailed" -> {
                    launcher.failed("Server disconnected");
                    dialog = Windows.loginFailed(this::ended);
                }
                case "tokenunreachable" -> {
                    launcher.failed("Server disconnected");
                    dialog = Windows.connectionFailed("Server disconnected, please try again", this::ended);
                }
                default -> {
                    launcher.wrongPassword();
                    dialog = Windows.unrecognized(this::ended);
                }
            }
        });
    }

    // --- with a password ------------------------------------------------------------------------
    private void submitted() {
        user = frame.user.getText();
        String password = new String(frame.password.getPassword());
        scenario.record("typed", user.isEmpty() ? "nothing" : "password");
        launcher.attempt(++attempts);
        Scenario.Step next = scenario.peek().beforeLogin() ? new Scenario.Step("ok", "") : scenario.take();
        boolean wrong = user.isEmpty() || password.isEmpty() || password.equals("wrong");
        Scenario.Step step = wrong ? new Scenario.Step("refused", "") : next;
        scenario.record("attempt", step.name());
        dialog = null;
        begin();
        gateway.after(400, () -> answer(step));
    }

    private void begin() {
        gateway.main().setVisible(true);
        splash.setTitle("Authenticating...");
        splash.setVisible(true);
        frame.setVisible(false);
    }

    private void answer(Scenario.Step step) {
        switch (step.name()) {
            case "twofa", "unanswered", "device", "code", "halfcode", "unfocused", "totp", "card", "frame" -> secondFactor(step);
            case "slow" -> gateway.after(1000L * step.number(1), this::passwordTaken);
            case "silent" -> gateway.after(1000L * step.number(60), () -> {
                launcher.unanswered();
                dialog = Windows.loginFailed(this::ended);
            });
            case "failed", "error", "unreachable" -> transientRefusal(step.name());
            case "passkey" -> refuse("Required PassKey is not supported", () -> Windows.connectionFailed(
                "Required PassKey is not supported, please upgrade to latest version GATEWAY", this::ended));
            case "multiple" -> refuse("multiple users", () -> Windows.connectionFailed(
                "This account has multiple Paper Trading users associated with it", this::ended));
            case "locked" -> {
                String text = Windows.tooManyText(step.number(287));
                launcher.tooMany(text);
                dialog = Windows.tooMany(text, this::ended);
            }
            case "taken" -> existing(1);
            case "takentwice" -> existing(2);
            case "refused" -> {
                launcher.opened("PWD", true, false, "");
                launcher.wrongPassword();
                dialog = Windows.unrecognized(this::ended);
            }
            case "messages" -> blocked(Windows::loginMessages);
            case "expired" -> blocked(() -> Windows.other("Password Expiration Notice"));
            case "blocked" -> blocked(() -> Windows.other("Order confirmation of a new kind"));
            case "crash" -> gateway.exit(step.number(1), "crash");
            default -> passwordTaken();
        }
    }

    private void passwordTaken() {
        launcher.opened("PWD", true, false, "");
        complete(false);
    }

    private void refuse(String why, Runnable window) {
        launcher.failed(why);
        window.run();
    }

    private void transientRefusal(String name) {
        launcher.failed("Server disconnected");
        dialog = switch (name) {
            case "failed" -> Windows.loginFailed(this::ended);
            case "error" -> Windows.loginError(this::ended);
            default -> Windows.connectionFailed("Server disconnected, please try again", this::ended);
        };
    }

    /** A window that stays until a person answers it, before the login is complete. */
    private void blocked(Runnable window) {
        launcher.opened("PWD", true, false, "");
        window.run();
    }

    private void existing(int times) {
        dialog = Windows.existingSession(true, () -> {
            if (times > 1) {
                gateway.after(400, () -> existing(times - 1));
            } else {
                gateway.after(200, this::passwordTaken);
            }
        }, () -> gateway.exit(0, "other session"));
    }

    /** The attempt is over: the login window is there again. */
    private void ended() {
        splash.setVisible(false);
        gateway.main().setVisible(false);
        frame.login.setEnabled(true);
        frame.setVisible(true);
    }

    // --- second factor --------------------------------------------------------------------------
    private void secondFactor(Scenario.Step step) {
        launcher.opened("PWD", true, false, switch (step.name()) {
            case "card" -> "[Security Card]";
            case "code", "halfcode", "unfocused", "totp" -> "[Mobile Authenticator app]";
            case "device" -> "[IB Key][Mobile Authenticator app]";
            default -> "[IB Key]";
        });
        launcher.challenged();
        TimerTask heart = gateway.every(20_000, launcher::heartbeat);
        switch (step.name()) {
            case "device" -> dialog = Windows.devices(chosen -> SwingUtilities.invokeLater(() -> {
                if (chosen != null && chosen.contains("Authenticator")) {
                    code(step, heart);
                } else {
                    push(step, heart);
                }
            }));
            case "code", "halfcode", "unfocused", "totp", "card" -> code(step, heart);
            case "frame" -> {
                splash.setVisible(false);
                gateway.main().setVisible(false);
                frame.heading.setText("SECOND FACTOR AUTHENTICATION");
                frame.setVisible(true);
                watch(step, heart);
            }
            default -> push(step, heart);
        }
    }

    private void code(Scenario.Step step, TimerTask heart) {
        String there = step.name().equals("halfcode") ? "98" : "";
        dialog = Windows.code(step.name().equals("card"), there, typed -> {
            boolean right = codes.right(step, typed);
            scenario.record("code", right ? "right" : "wrong");
            if (right) {
                authenticated(heart);
            } else {
                code(step, heart);
            }
        });
        if (step.name().equals("unfocused")) { // two windows that open together: the other one keeps the keys
            gateway.after(300, () -> {
                splash.toFront();
                splash.requestFocus();
            });
        }
    }

    private void push(Scenario.Step step, TimerTask heart) {
        scenario.record("push", "sent");
        dialog = Windows.push();
        watch(step, heart);
    }

    private void watch(Scenario.Step step, TimerTask heart) {
        long began = System.nanoTime();
        boolean expires = step.name().equals("unanswered");
        int limit = expires ? step.number(APPROVAL_SECONDS) : APPROVAL_SECONDS;
        TimerTask[] poll = new TimerTask[1];
        poll[0] = gateway.every(100, () -> {
            long seconds = (System.nanoTime() - began) / 1_000_000_000L;
            boolean approved = !expires
                && (scenario.approved() || (!step.detail().isEmpty() && seconds >= step.number(0)));
            if (!approved && seconds < limit) {
                return;
            }
            if (!poll[0].cancel()) {
                return;
            }
            if (dialog != null) {
                dialog.dispose();
            }
            if (approved) {
                authenticated(heart);
            } else {
                heart.cancel();
                scenario.record("push", "unanswered");
                launcher.failed("SUPPRESS_MESSAGE_BOX.");
                frame.heading.setText("LOGIN".equals(frame.heading.getText()) ? "LOGIN" : "IBKR GATEWAY");
                ended();
            }
        });
    }

    private void authenticated(TimerTask heart) {
        heart.cancel();
        complete(true);
    }

    // --- the end --------------------------------------------------------------------------------
    private void complete(boolean secondFactor) {
        launcher.completed(secondFactor, true);
        gateway.main().setVisible(true);
        splash.setVisible(true);
        frame.setVisible(false);
        splash.setTitle("Requesting startup parameters...");
        gateway.after(200, () -> splash.setTitle("Starting application..."));
        gateway.after(400, () -> {
            if (frame.isLive()) {
                gateway.openPort(true, this::started);
            } else {
                dialog = Windows.notBrokerage(() -> gateway.openPort(false, this::started));
            }
        });
    }

    private void started() {
        frame.dispose();
        splash.dispose();
        gateway.loggedIn(user);
    }
}
