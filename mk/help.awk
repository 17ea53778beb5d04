# `## text` lines are the variables, `##@ text` heads a group, `target: ... ## text` is a target.
/^##@ / { group = substr($0, 5); next }
/^## /  { vars[++n] = substr($0, 4); next }
/^[a-z][a-z0-9-]*:.*## / {
    name = $1
    sub(/:.*/, "", name)
    doc = $0
    sub(/^[^#]*## /, "", doc)
    if (group != "") {
        printf "%s%s\n", (started++ ? "\n" : ""), group
        group = ""
    }
    printf "  %-14s %s\n", name, doc
}
END {
    print "\nVariables"
    for (i = 1; i <= n; i++)
        print "  " vars[i]
}
