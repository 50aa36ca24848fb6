from hubmerge.cli.entry import main

main()
