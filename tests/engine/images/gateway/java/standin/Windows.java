package standin;

import java.awt.BorderLayout;
import java.awt.Component;
import java.awt.Dialog;
import java.awt.FlowLayout;
import java.awt.GridLayout;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Consumer;
import javax.swing.BoxLayout;
import javax.swing.ButtonGroup;
import javax.swing.JButton;
import javax.swing.JDialog;
import javax.swing.JFrame;
import javax.swing.JLabel;
import javax.swing.JList;
import javax.swing.JPanel;
import javax.swing.JPasswordField;
import javax.swing.JTextArea;
import javax.swing.JTextField;
import javax.swing.JToggleButton;
import javax.swing.WindowConstants;

/**
 * The windows of IB Gateway that a login controller meets. Each method names where its title, texts
 * and buttons are known from: the controller's class that looks for them, or a public report.
 * To be called on the event thread.
 */
final class Windows {
    private Windows() {}

    /**
     * The login window. IBC: GatewayLoginFrameHandler (title, "Log In"/"Paper Log In", "IB API", label
     * "Trading Mode", "Live Trading"/"Paper Trading", the first two text fields). ibcontroller:
     * labels.json, login (the same, with accessible names Username and Password).
     */
    static final class LoginFrame extends JFrame {
        private static final long serialVersionUID = 1L;
        final JTextField user = new JTextField(16);
        final JPasswordField password = new JPasswordField(16);
        final JToggleButton live = new JToggleButton("Live Trading", true);
        final JToggleButton paper = new JToggleButton("Paper Trading");
        final JButton login = new JButton("Log In");
        final JLabel heading = new JLabel("IBKR GATEWAY");

        LoginFrame(Runnable submitted) {
            super("IBKR Gateway");
            setDefaultCloseOperation(WindowConstants.DO_NOTHING_ON_CLOSE);
            user.getAccessibleContext().setAccessibleName("Username");
            password.getAccessibleContext().setAccessibleName("Password");
            JToggleButton api = new JToggleButton("IB API", true);
            JToggleButton fix = new JToggleButton("FIX CTCI");
            group(fix, api);
            group(live, paper);
            live.addActionListener(event -> login.setText("Log In"));
            paper.addActionListener(event -> login.setText("Paper Log In"));
            login.addActionListener(event -> submitted.run());
            JPanel rows = new JPanel(new GridLayout(0, 1));
            rows.add(heading);
            rows.add(row(new JLabel("API Type"), fix, api));
            rows.add(row(new JLabel("Trading Mode"), live, paper));
            rows.add(row(user));
            rows.add(row(password));
            rows.add(row(login));
            add(rows);
            pack();
        }

        boolean isLive() {
            return live.isSelected();
        }
    }

    private static void group(JToggleButton... buttons) {
        ButtonGroup group = new ButtonGroup();
        for (JToggleButton button : buttons) {
            group.add(button);
        }
    }

    private static JPanel row(Component... parts) {
        JPanel row = new JPanel(new FlowLayout(FlowLayout.LEFT));
        for (Component part : parts) {
            row.add(part);
        }
        return row;
    }

    /**
     * The small frame over the main window while it starts; its title goes through "Authenticating...",
     * "Requesting startup parameters..." and "Starting application...", with which it closes. IBC:
     * SplashFrameHandler (the last title's close is the login's end); public logs: IBC's issues 207 and 153.
     */
    static JFrame splash() {
        JFrame frame = new JFrame("Authenticating...");
        frame.setDefaultCloseOperation(WindowConstants.DO_NOTHING_ON_CLOSE);
        frame.add(new JLabel("Please wait"));
        frame.setSize(300, 80);
        frame.setLocation(200, 200);
        return frame;
    }

    private static JDialog dialog(String title, Component body, Map<String, Runnable> buttons) {
        JDialog dialog = new JDialog((Dialog) null, title, false);
        dialog.setDefaultCloseOperation(WindowConstants.DO_NOTHING_ON_CLOSE);
        JPanel row = new JPanel();
        buttons.forEach((text, action) -> {
            JButton button = new JButton(text);
            button.addActionListener(event -> {
                dialog.dispose();
                action.run();
            });
            row.add(button);
        });
        dialog.add(body, BorderLayout.CENTER);
        dialog.add(row, BorderLayout.SOUTH);
        dialog.pack();
        dialog.setLocation(250, 250);
        dialog.setVisible(true);
        return dialog;
    }

    private static JDialog message(String title, Component body, String button, Runnable action) {
        return dialog(title, body, new LinkedHashMap<>(Map.of(button, action)));
    }

    private static JTextArea area(String text) {
        JTextArea area = new JTextArea(text, 3, 40);
        area.setEditable(false);
        area.setLineWrap(true);
        return area;
    }

    /** IBC: SecondFactorAuthenticationDialogHandler (title); ibcontroller: labels.json, mfa. The text is invented. */
    static JDialog push() {
        return message("Second Factor Authentication", area("A notification was sent to your IB Key."),
            "Resend notification", () -> { });
    }

    /** IBC: SecondFactorAuthenticationDialogHandler (text area "Select second factor device", a list, "OK"). */
    static JDialog devices(Consumer<String> chosen) {
        JList<String> list = new JList<>(new String[] {"IB Key", "Mobile Authenticator app"});
        JPanel body = new JPanel();
        body.setLayout(new BoxLayout(body, BoxLayout.Y_AXIS));
        body.add(area("Select second factor device"));
        body.add(list);
        return message("Second Factor Authentication", body, "OK", () -> chosen.accept(list.getSelectedValue()));
    }

    /**
     * A code to type instead of a push. Titles: IBC's SecondFactorAuthenticationDialogHandler, which also
     * knows "Security Code Card Authentication"; the field and its label are invented.
     */
    static JDialog code(boolean card, String there, Consumer<String> typed) {
        JTextField field = new JTextField(there, 8);
        field.getAccessibleContext().setAccessibleName("Security Code");
        JPanel body = row(new JLabel(card ? "Enter the values of your card" : "Enter your security code"), field);
        JDialog dialog = message(card ? "Security Code Card Authentication" : "Second Factor Authentication", body,
            "OK", () -> typed.accept(field.getText().strip()));
        dialog.getRootPane().setDefaultButton(button(dialog));
        field.requestFocusInWindow();
        return dialog;
    }

    private static JButton button(JDialog dialog) {
        JPanel row = (JPanel) dialog.getContentPane().getComponent(1);
        return (JButton) row.getComponent(0);
    }

    /** No class of IBC's knows it; title: docs/troubleshooting.md; ibcontroller: labels.json, unrecognized_credentials. */
    static JDialog unrecognized(Runnable closed) {
        return message("Unrecognized Username or Password", area("Enter your user name and password again."), "OK", closed);
    }

    /** IBC: LoginFailedDialogHandler; public log: IBC's issue 216. The text is invented. */
    static JDialog loginFailed(Runnable closed) {
        return message("Login failed", area("Server disconnected, please try again."), "OK", closed);
    }

    /** IBC: LoginErrorDialogHandler (title, text areas, "OK"); the text: IBC's issue 142. */
    static JDialog loginError(Runnable closed) {
        return message("Login Error", area("Login failed - Server disconnected, please try again"), "OK", closed);
    }

    /** IBC: GatewayDialogHandler (a label that begins with "Connection to server failed"); passkey: IBAutomater's issue 113. */
    static JDialog connectionFailed(String why, Runnable closed) {
        return message("Gateway", new JLabel("Connection to server failed: " + why), "OK", closed);
    }

    /** IBC: TooManyFailedLoginAttemptsDialogHandler (the text area's words, with minutes and seconds); the title is invented. */
    static JDialog tooMany(String text, Runnable closed) {
        return message("Login", area(text), "OK", closed);
    }

    static String tooManyText(int seconds) {
        String minutes = seconds >= 60 ? seconds / 60 + (seconds / 60 == 1 ? " minute & " : " minutes & ") : "";
        return "Too many failed login attempts. Please wait " + minutes + seconds % 60
            + (seconds % 60 == 1 ? " second" : " seconds") + " before attempting to re-login again.";
    }

    /** IBC: ExistingSessionDetectedDialogHandler (title, buttons); the buttons of a start: IBAutomater's pull request 8. */
    static JDialog existingSession(boolean starting, Runnable goOn, Runnable end) {
        Map<String, Runnable> buttons = new LinkedHashMap<>();
        buttons.put(starting ? "Continue Login" : "Reconnect This Session", goOn);
        buttons.put("Exit Application", end);
        return dialog("Existing session detected", area("Another session of this user is open."), buttons);
    }

    /** IBC: ReloginDialogHandler (title, "Re-login"). */
    static JDialog reloginRequired(Runnable again) {
        return message("Re-login is required", area("The session was disconnected."), "Re-login", again);
    }

    /** IBC: NonBrokerageAccountDialogHandler (a label, "I understand and accept"); its title: IBC's issue 244. */
    static JDialog notBrokerage(Runnable accepted) {
        return message("Warning", new JLabel("This is not a brokerage account. It is a paper trading account."),
            "I understand and accept", accepted);
    }

    /** No controller knows it; title: IBC's issue 343. */
    static JDialog loginMessages() {
        return message("Login Messages", area("An account document needs to be read."), "Close", () -> { });
    }

    /** No controller knows it; title: docs/troubleshooting.md. */
    static JDialog writeAccess() {
        return message("API client needs write access action confirmation",
            area("An API client asks for write access."), "Yes", () -> { });
    }

    /** A window that no controller knows, with any title. */
    static JDialog other(String title) {
        return message(title, area("Please confirm."), "Acknowledge", () -> { });
    }

    /** IBC: RestartConfirmationDialogHandler (a label, "Yes"). */
    static JDialog confirmRestart(Runnable yes) {
        Map<String, Runnable> buttons = new LinkedHashMap<>();
        buttons.put("Yes", yes);
        buttons.put("No", () -> { });
        return dialog("Restart", new JLabel("Are you sure you would like to restart the application?"), buttons);
    }

    /** IBC: ShutdownProgressDialogHandler (title). */
    static JDialog shutdown() {
        return dialog("Shutdown progress", new JLabel("Closing"), Map.of());
    }
}
